"""SASL exchanges as pure objects: lines in, challenges and credentials out."""
