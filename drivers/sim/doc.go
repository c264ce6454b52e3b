// Package sim is a container engine in memory. It runs nothing: it keeps the books of an
// engine (images, containers, networks, volumes, host ports), lets time pass over them
// and behaves, towards a driver's caller, as the Docker driver does. It serves tests,
// load and trying things out, and is never chosen unless named.
//
// An Engine outlives its drivers, so that several workers, or one that was restarted,
// can share it. Its journal keeps what ever started and stopped, for whoever wants to
// prove that nothing stale ever ran.
//
// # Images
//
// Every image can be pulled, except those whose path starts with "missing/" (not found)
// and "denied/" (denied): "missing/web:1", "registry.example/denied/web".
//
// # Steering
//
// Config sets how everything behaves; variables of a spec's own env steer its workload:
//
//	SIM_EXIT_AFTER=1s      every instance ends by itself after this long
//	SIM_EXIT_CODE=1        with this code (0 when not set); alone it means at once
//	SIM_EXIT_TIMES=2       but only the first two lives of an instance do
//	SIM_OOM=true           the end is out of memory (exit code 137)
//	SIM_HEALTH=never       health checks fail; also ok, after:2s (pass from then on),
//	                       until:5s (fail from then on), flap:1s (change every second)
//	SIM_LOG_RATE=10        lines per second of each instance
//	SIM_LOG_BYTES=200      length of each line
//	SIM_PRINT=a\nerr:b     lines printed at each start, those with err: on stderr
//	SIM_BODY=hello         what the workload answers, see Engine.Get and ${http:...}
//	SIM_PULL=30s           how long the pull takes
//	SIM_STOP=2s            how long stopping takes; "ignore" needs the whole grace
//	SIM_HOOK_TAKES=1s      how long the pre-deploy hook takes
//	SIM_HOOK_EXIT=1        its exit code
//	SIM_FAIL=create:unavailable:3
//	                       the first 3 creates fail as unavailable; calls are pull,
//	                       hook, create, start, stop and remove, classes not-found,
//	                       denied, unavailable, conflict, unsupported and engine (none);
//	                       without a number all fail; several, separated by commas
//
// In a line of SIM_PRINT, ${NAME} is a variable or a secret, ${file:/path} a secret
// file, ${starts} how often containers, hooks included, started with the workload's
// volumes, ${http:host} what a workload of a shared network answers, and ${x:1000} a
// thousand times "x".
//
// A health check of the spec is not run: the script decides, paced by the check's
// interval, retries and start period.
//
// # What it does not do
//
// No process runs, no port is listened on (see Engine.Get), no memory or CPU is used,
// and a GPU is refused. Secrets are resolved, and forgotten with the process.
package sim
