"""Studies: from STUDY.yaml to arms, and from the arms' small result files to tables and tests. Nothing here trains."""
