"""Rule plan: what everything would take, as tables and as a chart of it played out in time."""

from pathlib import Path

from _script import run


def main(job, log):
    import yaml

    from granvit.config.plan import load_plan
    from granvit.planning import pages
    from granvit.planning.gantt import write_charts
    from granvit.planning.graph import Asked
    from granvit.planning.plan import make_plan
    from granvit.progress import say

    scale, folder, overrides = job.params.scale, Path(job.params.folder), job.params.overrides
    settings = load_plan().at(scale)
    given = Path(log).with_suffix(".yaml")
    given.write_text(yaml.safe_dump(overrides), encoding="utf-8")
    files = (str(given),) if overrides else ()
    plan = make_plan(
        Asked(scale, profile=settings.profiles.get(scale), configfiles=files), settings, overrides
    )
    folder.mkdir(parents=True, exist_ok=True)
    pages.write(plan, folder / "plan.csv", folder / "plan.md")
    write_charts(plan, folder / "plan.png", folder / "plan.html")
    say(log, pages.text(plan))


run(snakemake, main)
