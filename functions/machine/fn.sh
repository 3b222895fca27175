#!/bin/sh
# How is this machine doing? Load, free memory, free disk and, where there is
# a sensor, temperature. A binary function: a folder with a file fn.sh.
echo "load    $(cut -d' ' -f1-3 /proc/loadavg)"
awk '/^MemAvailable:/ {printf "memory  %d MB available\n", $2 / 1024}' \
    /proc/meminfo
df -Pk . | awk 'NR == 2 {printf "disk    %d MB free\n", $4 / 1024}'
sensor=/sys/class/thermal/thermal_zone0/temp
[ ! -r $sensor ] || awk '{printf "heat    %.1f C\n", $1 / 1000}' $sensor
