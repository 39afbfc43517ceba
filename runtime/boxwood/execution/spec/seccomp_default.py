"""Which system calls a container may make when nobody says otherwise.

The same decisions as Docker's default profile (a test compares the two for every call), told by
what a call is for. A call that stands in no group answers EPERM; one that is newer than the newest
named here answers ENOSYS, so that a program falls back as on an older kernel.

Two things that it does not do, as Docker's does not: a 32-bit program still reaches AF_ALG and
AF_VSOCK through ``socketcall``, whose arguments stand in memory that a filter cannot read; and
``ioctl`` is not looked into (TIOCSTI is the kernel's ``dev.tty.legacy_tiocsti``).
"""

from __future__ import annotations

from boxwood.execution.spec.seccomp_profile import (
    Argument,
    Compare,
    Condition,
    Profile,
    Rule,
    allow,
)

_EPERM = 1
_ENOSYS = 38

# clone(2) flags that make a namespace: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NAMESPACES = (
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000
)
_AF_ALG, _AF_NFC, _AF_VSOCK = 38, 39, 40
# PER_LINUX, PER_LINUX32, UNAME26 with each of them, and the question what it is now.
_PERSONALITIES = (0x0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF)

_ALWAYS = {
    "descriptors": """
        close close_range dup dup2 dup3 fcntl fcntl64 ioctl pipe pipe2 eventfd eventfd2 memfd_create
        memfd_secret signalfd signalfd4 flock
    """,
    "reading and writing": """
        read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 lseek _llseek
        sendfile sendfile64 splice tee vmsplice copy_file_range readahead fadvise64 fadvise64_64
        fallocate ftruncate ftruncate64 truncate truncate64 cachestat
        sync syncfs fsync fdatasync sync_file_range
    """,
    "asynchronous input and output": """
        io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64
        ioprio_get ioprio_set
    """,
    "waiting for many things": """
        select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64
        epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait
        epoll_pwait2 inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
    """,
    "files by name": """
        open openat openat2 creat name_to_handle_at access faccessat faccessat2
        mkdir mkdirat mknod mknodat rmdir link linkat symlink symlinkat unlink unlinkat
        readlink readlinkat rename renameat renameat2 chdir fchdir getcwd getdents getdents64 umask
    """,
    "what is known of a file": """
        stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs
        fstatfs64 statmount listmount
        chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32
        utime utimes utimensat utimensat_time64 futimesat
        getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat
        listxattr llistxattr flistxattr listxattrat
        removexattr lremovexattr fremovexattr removexattrat
    """,
    "memory": """
        brk mmap mmap2 munmap mremap mprotect msync madvise mincore mseal map_shadow_stack
        remap_file_pages mlock mlock2 mlockall munlock munlockall membarrier
        pkey_alloc pkey_free pkey_mprotect process_mrelease
    """,
    "processes and threads": """
        execve execveat exit exit_group fork vfork wait4 waitid waitpid
        getpid getppid gettid getpgid getpgrp setpgid getsid setsid set_tid_address
        get_thread_area set_thread_area prctl pidfd_open rseq
        futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue
        get_robust_list set_robust_list restart_syscall uretprobe riscv_hwprobe
    """,
    "signals": """
        kill tkill tgkill pidfd_send_signal pause sigaltstack sigprocmask sigreturn
        rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    """,
    "who one is": """
        getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32
        getresuid getresuid32 getresgid getresgid32 getgroups getgroups32
        setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32
        setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32
        setgroups setgroups32 capget capset
    """,
    "shutting oneself in": """
        seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
    """,
    "time": """
        time gettimeofday times adjtimex clock_adjtime clock_adjtime64
        clock_getres clock_getres_time64 clock_gettime clock_gettime64
        nanosleep clock_nanosleep clock_nanosleep_time64 alarm getitimer setitimer
        timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
        timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
        timerfd_settime64
    """,
    "share of the processor, limits": """
        sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam
        sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max
        sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64
        getpriority setpriority getrlimit ugetrlimit setrlimit prlimit64 getrusage getcpu
        sysinfo uname getrandom
    """,
    "sockets": """
        accept accept4 bind connect listen shutdown socketcall socketpair getpeername getsockname
        getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg
        recvmmsg_time64
    """,
    "System V and POSIX communication": """
        ipc shmat shmctl shmdt shmget semctl semget semop semtimedop semtimedop_time64
        msgctl msgget msgrcv msgsnd
        mq_open mq_unlink mq_notify mq_getsetattr mq_timedreceive mq_timedreceive_time64
        mq_timedsend mq_timedsend_time64
    """,
}

_BY_ARCHITECTURE = (
    (("amd64", "x32"), "arch_prctl"),
    (("amd64", "x32", "x86"), "modify_ldt"),
    (("arm", "arm64"), "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls"),
    (("arm", "arm64"), "sync_file_range2"),
    (("ppc64le",), "sync_file_range2 swapcontext"),
    (("s390", "s390x"), "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    (("riscv64",), "riscv_flush_icache"),
)

_BY_CAPABILITY = {
    "CAP_SYS_ADMIN": """
        clone clone3 unshare setns sethostname setdomainname
        mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick
        bpf perf_event_open syslog fanotify_init lookup_dcookie quotactl quotactl_fd
        lsm_get_self_attr lsm_set_self_attr lsm_list_modules
    """,
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_NICE": "mbind get_mempolicy set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": """
        ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd
    """,
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

_SUB_ARCHITECTURES = {
    "SCMP_ARCH_X86_64": ("SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "SCMP_ARCH_AARCH64": ("SCMP_ARCH_ARM",),
    "SCMP_ARCH_MIPS64": ("SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"),
    "SCMP_ARCH_MIPS64N32": ("SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64"),
    "SCMP_ARCH_MIPSEL64": ("SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"),
    "SCMP_ARCH_MIPSEL64N32": ("SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64"),
    "SCMP_ARCH_S390X": ("SCMP_ARCH_S390",),
}


def _argument_rules() -> tuple[Rule, ...]:
    """Return the calls of which only some uses are harmless."""
    unprivileged = Condition(caps=("CAP_SYS_ADMIN",))
    s390 = ("s390", "s390x")

    def first(op: Compare, value: int) -> tuple[Argument, ...]:
        return (Argument(index=0, op=op, value=value),)

    def no_namespace(index: int) -> tuple[Argument, ...]:
        return (Argument(index=index, op="SCMP_CMP_MASKED_EQ", value=_NAMESPACES, value_two=0),)

    return (
        *(allow("personality", args=first("SCMP_CMP_EQ", value)) for value in _PERSONALITIES),
        # every family but AF_ALG (CVE-2026-31431) and AF_VSOCK, which reach past the container
        allow("socket", args=first("SCMP_CMP_LT", _AF_ALG)),
        allow("socket", args=first("SCMP_CMP_EQ", _AF_NFC)),
        allow("socket", args=first("SCMP_CMP_GT", _AF_VSOCK)),
        allow(
            "clone",
            args=no_namespace(0),
            excludes=Condition(caps=("CAP_SYS_ADMIN",), arches=s390),
        ),
        allow(
            "clone", args=no_namespace(1), includes=Condition(arches=s390), excludes=unprivileged
        ),
        # its flags stand in memory; ENOSYS makes the C library fall back to clone
        Rule(names=("clone3",), action="SCMP_ACT_ERRNO", errno_ret=_ENOSYS, excludes=unprivileged),
        # before 4.8 a tracer could change a call after the filter had seen it
        allow("ptrace process_vm_readv process_vm_writev", includes=Condition(min_kernel="4.8")),
    )


def default_profile() -> Profile:
    """Return the profile; build it once and keep it."""
    return Profile(
        default_action="SCMP_ACT_ERRNO",
        default_errno_ret=_EPERM,
        sub_architectures=_SUB_ARCHITECTURES,
        rules=(
            *(allow(calls) for calls in _ALWAYS.values()),
            *_argument_rules(),
            *(
                allow(calls, includes=Condition(arches=arches))
                for arches, calls in _BY_ARCHITECTURE
            ),
            *(
                allow(calls, includes=Condition(caps=(capability,)))
                for capability, calls in _BY_CAPABILITY.items()
            ),
        ),
    )
