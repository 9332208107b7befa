"""Runs a container of the rendered chart as a kubelet would, as far as Linux is concerned: its own mounts, its command and environment, the
user, capabilities and read-only root that its security context says, in the machine's PID namespace.

    pod.py RENDERED KIND NAME CONTAINER LEGATE VOLUME=PATH...

Each volume that the container mounts is given as a directory of this machine. What is not here: the container's image (this machine's programs take its
place), AppArmor, seccomp, cgroups and the pod's network.
"""

import os
import subprocess
import sys

import yaml

rendered, kind, name, container, legate, *given = sys.argv[1:]
volumes = dict(one.split("=", 1) for one in given)
with open(rendered) as file:
    objects = [one for one in yaml.safe_load_all(file) if one]
[found] = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
pod = found["spec"]["template"]["spec"]
[told] = [one for one in pod["containers"] if one["name"] == container]
assert pod["hostPID"], "the container would not see the machine's processes"
assert {one["name"] for one in told["volumeMounts"]} == volumes.keys() <= {one["name"] for one in pod["volumes"]}

# A root of its own, that goes with the mount namespace (`unshare --mount` has made one).
root = "/mnt"
run = lambda *words: subprocess.run(words, check=True)
run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", root)


def bind(source, target, *options):
    target = root + target
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a").close()
    run("mount", "--bind", source, target)
    if options:
        run("mount", "-o", ",".join(("remount", "bind", *options)), target)


for place in ("/usr", "/etc/ssl", "/dev", "/proc"):
    bind(place, place)
for place in ("/bin", "/sbin", "/lib", "/lib64"):
    if os.path.exists(place):
        os.symlink("usr" + place, root + place)
bind(legate, "/legate", "ro")
for mount in told["volumeMounts"]:
    source = volumes[mount["name"]]
    if "subPath" in mount:
        source = os.path.join(source, mount["subPath"])
    bind(source, mount["mountPath"], *(["ro"] if mount.get("readOnly") else []))
security = told["securityContext"]
if security["readOnlyRootFilesystem"]:
    run("mount", "-o", "remount,ro", root)

assert security["capabilities"]["drop"] == ["ALL"]
kept = ",".join(["-all"] + ["+" + one.lower() for one in security["capabilities"].get("add", [])])
words = ["setpriv", "--reuid", str(security["runAsUser"]), "--regid", str(security["runAsGroup"]), "--clear-groups"]
words += ["--inh-caps", "-all", "--bounding-set", kept]
if not security["allowPrivilegeEscalation"]:
    words.append("--no-new-privs")
environment = {one["name"]: one["value"] for one in told["env"]}
os.chroot(root)
os.chdir("/")
os.execvpe("setpriv", [*words, "/legate", *told["args"]], {"PATH": "/usr/bin:/bin", **environment})
