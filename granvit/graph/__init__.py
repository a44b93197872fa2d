"""What the jobs of the graph are made of: functions of what `config/` says, without Snakemake.

The rules call them with a `Scale` and the wildcards of a job. No workflow script does, so a change here
belongs to no step: it shows in the jobs' parameters and input files.
"""
