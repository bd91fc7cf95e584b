"""The verbs: a function each, session and argument in, reply out."""
