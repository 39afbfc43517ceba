# Published ports. Played in the network namespace of the engine, which nobody else is in.
# What a server says, once it has come to listen.
ask() {
  for i in 1 2 3 4 5 6 7 8 9; do
    got=$(nc -w 5 "$@" </dev/null 2>/dev/null) && [ -n "$got" ] && break
    sleep 0.2
  done
  echo "$got"
}
serve="nc -ll -p 80 -e echo hello"
docker run -d --name web -p 127.0.0.1:8080:80 -p 8081:80 -p 9053:53/udp --expose 443 busybox $serve
docker port web | grep -v '\[::\]\|:::'
docker port web 80 | grep -v '\[::\]\|:::'
docker port web 443
echo "status $?"
docker port web 53/udp | grep -v '\[::\]\|:::'
docker inspect -f '{{json .HostConfig.PortBindings}}' web
docker inspect -f '{{json .Config.ExposedPorts}}' web
docker inspect -f '{{range $p, $b := .NetworkSettings.Ports}}{{$p}} {{if $b}}published{{else}}-{{end}};{{end}}' web
ask 127.0.0.1 8080
ask 127.0.0.1 8081
docker run -d --name taken -p 127.0.0.1:8080:80 busybox true 2>&1 | sed 's/([0-9a-f]\{64\})/(<endpoint>)/; s/ failed to set up container networking://'
docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' taken
docker rm taken
docker stop -t 0 web
docker port web
docker inspect -f '{{json .NetworkSettings.Ports}}' web
docker start web
docker port web 53/udp | grep -v '\[::\]\|:::'
ask 127.0.0.1 8080
docker rm -f web
docker run -d --name range -p 127.0.0.1:7000-7002:80 busybox sleep 100
docker run -d --name range2 -p 127.0.0.1:7000-7002:80 busybox sleep 100
docker port range
docker port range2
docker run -d --name many -p 127.0.0.1:6000-6002:80-82 busybox sleep 100
docker port many
docker ps --format '{{.Names}} {{.Ports}}'
docker run -d --name all -P --expose 80 --expose 81-82/udp busybox sleep 100
docker inspect -f '{{range $p, $b := .NetworkSettings.Ports}}{{$p}} {{len $b}};{{end}}' all | tr -d 12
docker run --rm -p 80:80 --network none busybox true
echo "status $?"
docker run --rm --network container:range -p 80:80 busybox true
echo "status $?"
docker run --rm -p 127.0.0.1:x:80 busybox true
echo "status $?"
