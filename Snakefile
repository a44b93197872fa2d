# The GranViT paper as one graph. `snakemake -n all` shows it; docs/usage.md says what can be asked for.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


# Used with `--software-deployment-method apptainer` only, where `make env` has to be run inside it once.
container: "docker://docker.io/library/python:3.11"


# Only when jobs are really run, so that plans start nothing
onstart:
    finished.remove_seen_states(is_recorded)
    planned = [*workflow.dag.needrun_jobs()]
    catalogued = {job.wildcards.source for job in planned if job.rule.name == "catalogue_source"}
    reported(data.require_sources)(AT[SCALE], catalogued)
    if workflow.executor_plugin.name == "slurm":
        submitted = [job for job in planned if not job.is_local]
        reported(profiles.ask_slurm)(
            submitted, AT[SCALE].config.compute, [*runs.TRAINING_RULES.values(), "check_training_devices"]
        )
    # With its default limit, Snakemake looks for jobs to start every second, once more for each job that has ended: after
    # some tens of jobs that takes a whole core. Without one it looks when a job has ended
    if (limit := workflow.scheduler.job_rate_limiter) and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None
    # To start a server costs what two jobs save, and the first ones do not wait for it; the tests have one for all
    several = len(planned) >= 8 and fork_server.ADDRESS not in os.environ
    if several and not workflow.non_local_exec and SETTINGS[SCALE]["compute"]["fork_server"]:
        fork_server.start()


# The persistence remembers what there was before a job of this command
onsuccess:
    workflow.persistence.deactivate_cache()
    finished.remove_seen_states(is_recorded)


onerror:
    workflow.persistence.deactivate_cache()
    finished.remove_seen_states(is_recorded)


# Settings and helpers (the only files with functions), then one file a phase
include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/miniature.smk"
include: "rules/data.smk"
include: "rules/data_reports.smk"
include: "rules/check_cluster.smk"
include: "rules/pretrain.smk"
include: "rules/finetune.smk"
include: "rules/evaluate.smk"
include: "rules/gates.smk"
include: "rules/answers.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/maps.smk"
include: "rules/claims.smk"
include: "rules/report.smk"
include: "rules/plan.smk"
# Targets that people type
include: "rules/collect.smk"
