"""A function for each verb: it takes the session and the argument, and returns the reply."""
