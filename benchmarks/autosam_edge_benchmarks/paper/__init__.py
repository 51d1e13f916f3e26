"""The paper's tables and figures beside ours: its printed values as data, our figures from the files of scored runs, nothing else."""
