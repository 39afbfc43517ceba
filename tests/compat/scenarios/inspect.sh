# Inspect, by templates as people script them.
docker run -d --name cc --network none --label a=1 --label b=two -e X=y --hostname box -w /tmp -u 1000:1000 \
  -m 64m --cpu-shares 512 --restart on-failure:3 --stop-signal INT --stop-timeout 3 --read-only --tmpfs /scratch \
  --cap-add NET_ADMIN --cap-drop CHOWN --ulimit nofile=100:200 --shm-size 1m --init busybox sleep 100
for t in '{{.Name}}' '{{.Path}} {{.Args}}' '{{.Config.Image}}' '{{.Config.Hostname}}' '{{.Config.User}}' \
  '{{.Config.WorkingDir}}' '{{json .Config.Env}}' '{{json .Config.Cmd}}' '{{json .Config.Entrypoint}}' \
  '{{json .Config.Labels}}' '{{index .Config.Labels "b"}}' '{{.Config.StopSignal}}' '{{.Config.StopTimeout}}' \
  '{{.Config.Tty}} {{.Config.OpenStdin}} {{.Config.StdinOnce}}' '{{.Config.AttachStdout}}' \
  '{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.Restarting}} {{.State.Dead}}' \
  '{{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}' '{{if .State.Pid}}has a pid{{end}}' \
  '{{.State.FinishedAt}}' '{{.RestartCount}}' '{{.Driver}}' '{{.HostConfig.NetworkMode}}' '{{.HostConfig.Memory}}' \
  '{{.HostConfig.MemorySwap}}' '{{.HostConfig.CpuShares}}' '{{json .HostConfig.RestartPolicy}}' \
  '{{.HostConfig.ReadonlyRootfs}}' '{{json .HostConfig.Tmpfs}}' '{{json .HostConfig.CapAdd}} {{json .HostConfig.CapDrop}}' \
  '{{json .HostConfig.Ulimits}}' '{{.HostConfig.ShmSize}}' '{{.HostConfig.Init}}' '{{.HostConfig.Privileged}}' \
  '{{.HostConfig.AutoRemove}}' '{{json .HostConfig.LogConfig}}' '{{.HostConfig.PidMode}}|{{.HostConfig.IpcMode}}|{{.HostConfig.UTSMode}}' \
  '{{json .HostConfig.PortBindings}}' '{{json .HostConfig.Binds}}' '{{json .HostConfig.SecurityOpt}}' \
  '{{json .HostConfig.MaskedPaths}}' '{{json .HostConfig.ReadonlyPaths}}' '{{json .Mounts}}' \
  '{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{.IPAddress}};{{end}}' '{{json .NetworkSettings.Ports}}' \
  '{{.Platform}}' '{{len .Id}}' '{{json .ExecIDs}}' '{{printf "%.5s" .Created}}'; do
  printf '%s -> ' "$t"; docker inspect -f "$t" cc
done
docker inspect -f '{{.NoSuch}}' cc
echo "status $?"
docker inspect nobody
echo "status $?"
docker inspect --type volume cc
echo "status $?"
docker inspect -f '{{.Id}}' cc busybox >/dev/null
echo "status $?"
