"""What splits and data sets have in common: the same pictures, near copies, and questions that leak."""
