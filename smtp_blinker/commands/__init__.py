"""The verbs: a function each, which takes session and argument and returns the reply."""
