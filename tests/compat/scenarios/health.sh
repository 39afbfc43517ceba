# A health check that turns, and one that is not there.
docker run -d --name hh --network none --health-cmd 'test -e /ok' --health-interval 0.2s --health-retries 2 --health-timeout 2s busybox sleep 100
docker inspect -f '{{.State.Health.Status}}' hh
until [ "$(docker inspect -f '{{.State.Health.Status}}' hh)" = unhealthy ]; do sleep 0.1; done
docker ps --format '{{.Names}} {{.State}}' -f health=unhealthy
docker exec hh touch /ok
until [ "$(docker inspect -f '{{.State.Health.Status}}' hh)" = healthy ]; do sleep 0.1; done
docker inspect -f '{{.State.Health.FailingStreak}} {{json .Config.Healthcheck}}' hh
docker inspect -f '{{range .State.Health.Log}}{{.ExitCode}}{{end}}' hh | grep -o '10*$' | cut -c 1-2
docker run -d --name none --network none --no-healthcheck busybox sleep 100
docker inspect -f '{{json .State.Health}} {{json .Config.Healthcheck}}' none
docker run -d --name plain --network none busybox sleep 100
docker inspect -f '{{json .State.Health}} {{json .Config.Healthcheck}}' plain
