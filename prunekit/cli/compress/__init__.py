"""`prunekit compress`: the job that the options ask for, what is said before it starts, and the run itself."""
