"""What a recipe will do and hold, said before anything is loaded."""
