# What the engine says of itself, as far as it must be the same.
docker version --format '{{.Client.APIVersion}}'
docker info --format '{{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}}'
docker info --format '{{.OSType}} {{.Architecture}} {{.NCPU}} {{.LoggingDriver}} {{.CgroupVersion}}'
docker run -d --name cc --network none busybox sleep 100
docker info --format '{{.Containers}} {{.ContainersRunning}}'
docker container prune -f
docker rm cc
echo "status $?"
docker rm -f cc
docker rm -f cc
echo "status $?"
docker port nobody
echo "status $?"
docker logs
echo "status $?"
