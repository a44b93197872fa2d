"""Rule check_cluster: what the two checks found, on the console."""

from _script import run


def main(job, log):
    from granvit.files import read_json
    from granvit.progress import say
    from granvit.reporting.cluster import cluster_lines

    for line in cluster_lines([read_json(file) for file in job.input]):
        say(log, line)


run(snakemake, main)
