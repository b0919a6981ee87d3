"""Rows as people and other trainers write them: their files, columns, options and answers, and the conversions."""
