"""What devices, network and file system can do, before the first run on a cluster (docs/clusters.md). Measured anew each
time: nothing of it stays but what is printed."""


localrules:
    check_cluster,


rule check_training_devices:
    output:
        report=temp("<results>/cluster/training.json"),
    log:
        "<logs>/<job>.log",
    benchmark:
        "<timings>/<job>.tsv"
    pathvars:
        job="check_training_devices",
    threads: lookup(dpath="{scale}/compute/train_threads", within=SETTINGS)
    resources:
        accelerators=lookup(dpath="{scale}/compute/train_accelerators", within=SETTINGS),
    params:
        training=True,
    message:
        "Checking the devices of a training job"
    script:
        "../workflow_scripts/check_devices.py"


use rule check_training_devices as check_one_device with:
    output:
        report=temp("<results>/cluster/one.json"),
    pathvars:
        job="check_one_device",
    threads: lookup(dpath="{scale}/compute/predict_threads", within=SETTINGS)
    resources:
        accelerators=lookup(dpath="{scale}/compute/accelerators", within=SETTINGS),
    params:
        training=False,
    message:
        "Checking the device of a job that has one"


rule check_cluster:
    input:
        fill(rules.check_training_devices.output.report, scale=SCALE),
        fill(rules.check_one_device.output.report, scale=SCALE),
    log:
        f"results/{SCALE}/logs/check_cluster.log",
    message:
        "What the cluster can do"
    script:
        "../workflow_scripts/check_cluster.py"
