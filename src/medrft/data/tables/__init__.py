"""From tables as people and other trainers write them to examples, and back: files, columns, options and answers."""
