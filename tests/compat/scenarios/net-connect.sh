# Networks of a user: connected, disconnected, addresses, words.
docker network create --subnet 10.91.0.0/24 one
docker network create --subnet 10.92.0.0/24 --ip-range 10.92.0.128/25 two
docker run -d --name box --network one --ip 10.91.0.9 --network-alias db busybox sleep 100
show='{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.IPAddress}}/{{$e.IPPrefixLen}} {{$e.Gateway}} {{json $e.IPAMConfig}};{{end}}'
docker inspect -f "$show" box
docker exec box ip -o -4 addr show dev eth0 | awk '{print $4}'
docker exec box ip route
docker network connect --alias other two box
docker inspect -f "$show" box
docker exec box ip route | sort
docker exec box cat /etc/hosts | grep '^10'
docker network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}' two
docker network connect two box
echo "status $?"
docker network connect one nobody
echo "status $?"
docker network connect nowhere box
echo "status $?"
docker network connect host box
echo "status $?"
docker network connect none box
echo "status $?"
docker network rm two
echo "status $?"
docker network disconnect one box
docker exec box ip route
docker network disconnect one box
echo "status $?"
docker network disconnect two box
docker exec box ip -o link | wc -l
docker network connect --ip 10.91.0.77 one box
docker inspect -f "$show" box
docker stop -t 0 box
docker inspect -f "$show" box
docker network inspect -f '{{len .Containers}}' one
docker network connect two box
docker start box
docker inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{printf "%.9s" $e.IPAddress}};{{end}}' box
docker run --rm --network one --ip 10.91.0.77 busybox true 2>&1 | sed 's/failed to set up container networking: //'
docker run --rm --network one --ip 10.99.0.1 busybox true
docker run --rm --ip 10.91.0.5 busybox true
docker run --rm --network-alias x busybox true
docker run --rm --network one --mac-address 02:42:0a:5b:00:63 busybox cat /sys/class/net/eth0/address
docker rm -f box
docker network rm one two
