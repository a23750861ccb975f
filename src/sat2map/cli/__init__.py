"""The command line: verbs to functions, nothing else."""
