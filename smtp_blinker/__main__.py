"""``python -m smtp_blinker`` runs the program `smtp-blinker`."""

from smtp_blinker.serve import main

if __name__ == "__main__":
    main()
