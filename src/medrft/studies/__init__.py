"""Studies: what arms are, what their small result files hold, and what follows from them. Nothing here trains."""
