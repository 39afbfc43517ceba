/* A user namespace as a descriptor, for id-mapped mounts (mount_setattr(2)). */
#pragma once

/* Makes a user namespace with these maps (user_namespaces(7): "inside outside count\n" lines) and
 * returns a descriptor of it (close-on-exec), or a negative errno. No process stays in it. */
int bx_userns(const char *uid_map, const char *gid_map);
