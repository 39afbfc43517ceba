"""The OCI runtime-spec document of a container: see :mod:`boxwood.execution.spec.builder`."""

from boxwood.drivers.isolation import INIT_ANNOTATION
from boxwood.execution.spec.builder import (
    SandboxInfo,
    SpecDefaults,
    build_exec_process,
    build_spec,
    cgroups_path,
    default_seccomp,
)
from boxwood.execution.spec.mounts import SpecMount
from boxwood.execution.spec.process import ExecRequest, ResolvedUser
from boxwood.execution.spec.validate import validate_host_config

__all__ = [
    "INIT_ANNOTATION",
    "ExecRequest",
    "ResolvedUser",
    "SandboxInfo",
    "SpecDefaults",
    "SpecMount",
    "build_exec_process",
    "build_spec",
    "cgroups_path",
    "default_seccomp",
    "validate_host_config",
]
