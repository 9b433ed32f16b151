"""Speed and size on this machine; `launch.bench` runs it, `jaxau.report.speed` tells it."""
