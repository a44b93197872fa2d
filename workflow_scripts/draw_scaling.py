"""Rule draw_scaling: Figure 5, scores against the region pairs of one stage."""

from _script import run


def main(job, log):
    from granvit.config.tables import load_tables
    from granvit.reporting.scaling_figure import scaling_curves
    from granvit.reporting.scores import Scores

    scale, facts = job.wildcards.scale, dict(job.params.facts)
    points = job.params.points
    settings = facts["settings"]
    scores = Scores(f"results/{scale}/scores", settings["seed"], load_tables()["table1"].shared)
    mixtures = {point["mixture"]: file for point, file in zip(points, job.input.mixtures, strict=True)}
    scaling_curves(points, settings["columns"], scores, mixtures, scale, job.output.figure, facts)


run(snakemake, main)
