package drivers

import "strings"

// allCapabilities stands for every capability.
const allCapabilities = "ALL"

// bareCapability is a capability's name as a spec writes it.
func bareCapability(name string) string {
	return strings.TrimPrefix(strings.ToUpper(name), "CAP_")
}

// capabilityNames lists the capabilities of capabilities(7), as of Linux 6.12, without
// "CAP_".
func capabilityNames() []string {
	return []string{
		"AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF",
		"CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER",
		"FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE",
		"MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE",
		"NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID",
		"SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE",
		"SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME",
		"SYS_TTY_CONFIG", "WAKE_ALARM",
	}
}

// ulimitNames lists the limits of setrlimit(2) as a spec writes them.
func ulimitNames() []string {
	return []string{
		"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
		"nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
	}
}

// isSignal says whether s names a signal of signal(7): "SIGTERM", "TERM", "SIGRTMIN+3"
// or a number from 1 to 64.
func isSignal(s string) bool {
	if n, ok := digits(s); ok {
		return n >= 1 && n <= 64
	}
	name := strings.TrimPrefix(s, "SIG")
	switch name {
	case "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO",
		"IOT", "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP",
		"SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "UNUSED", "URG", "USR1", "USR2",
		"VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX":
		return true
	}
	if n, ok := strings.CutPrefix(name, "RTMIN+"); ok {
		v, ok := digits(n)
		return ok && v >= 1 && v <= 15
	}
	if n, ok := strings.CutPrefix(name, "RTMAX-"); ok {
		v, ok := digits(n)
		return ok && v >= 1 && v <= 14
	}
	return false
}

// digits reads a number of up to ten digits without a sign.
func digits(s string) (n int64, ok bool) {
	if s == "" || len(s) > 10 {
		return 0, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
