"""What a command of Snakemake would take before it is given: its graph, asked of Snakemake itself, and the
work, the time and the room of each of its jobs; then that graph played out in simulated time."""
