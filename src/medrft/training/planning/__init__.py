"""What `medrft plan` says of a recipe before anything is loaded: steps, memory on each GPU, and disk."""
