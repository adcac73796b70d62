# What FreeBSD's rc.subr does with a script's variables, as far as the tests of our script go.
# Sourced in place of /etc/rc.subr; BASE is the folder that the test made.

BASE=@BASE@
PYTHON=@PYTHON@ # what the stand-in for daemon(8) runs on
PATH=$BASE/bin:$PATH

warn() { echo "$0: WARNING: $*" >&2; }

load_kld() { echo "kldload $1" >>"$BASE/log"; }

load_rc_config() {
	[ ! -e "$BASE/rc.conf" ] || . "$BASE/rc.conf"
}

wait_for_pids() {
	while kill -0 "$1" 2>/dev/null; do sleep 0.02; done
	echo "Waiting for PIDS: $1."
}

# The process of a pid file, if it is alive and, with an interpreter, its own.
check_pidfile() {
	local _pid _args
	[ -r "$1" ] || return 0
	read -r _pid <"$1"
	kill -0 "$_pid" 2>/dev/null || return 0
	_args=$(/bin/ps -ww -o args= -p "$_pid")
	case "$_args" in
	"${3:+$3 }$2"*) echo "$_pid" ;;
	esac
}

run_rc_command() {
	local _verb _pid _enabled _command _file
	_verb=${1#one}
	eval "_enabled=\$$rcvar"
	rc_flags=$(eval echo "\$${name}_flags")
	_pid=$(check_pidfile "$pidfile" "$command" "$PYTHON")
	case "$1" in
	status | stop | one*) ;;
	*)
		if [ "$_enabled" != YES ]; then
			echo "Cannot '$1' $name. Set $rcvar to YES in /etc/rc.conf or use 'one$1' instead of '$1'."
			return 0
		fi
		;;
	esac
	case "$_verb" in
	status)
		[ -n "$_pid" ] || { echo "$name is not running."; return 1; }
		echo "$name is running as pid $_pid."
		return 0
		;;
	start)
		[ -z "$_pid" ] || { echo "$name already running?  (pid=$_pid)." >&2; return 1; }
		for _file in $required_files; do
			[ -r "$_file" ] || { warn "$_file is not readable."; return 1; }
		done
		;;
	stop)
		[ -n "$_pid" ] || { echo "$name not running? (check $pidfile)." >&2; return 1; }
		echo "Stopping $name."
		kill -TERM "$_pid"
		while [ -e "$pidfile" ]; do sleep 0.02; done
		echo "Waiting for PIDS: $_pid."
		return 0
		;;
	restart)
		[ -z "${restart_precmd:-}" ] || "$restart_precmd" || return 1
		[ -z "$_pid" ] || run_rc_command stop || return 1
		run_rc_command start
		return
		;;
	*)
		case " $extra_commands " in *" $_verb "*) ;; *) echo "unknown directive '$1'" >&2; return 1 ;; esac
		;;
	esac
	eval "_command=\${${_verb}_precmd:-}"
	if [ -n "$_command" ] && ! "$_command"; then
		warn "failed precmd routine for $name"
		return 1
	fi
	if [ "$_verb" = start ]; then
		for _file in $required_modules; do load_kld "$_file"; done
		echo "Starting $name."
		eval "$command $rc_flags $command_args"
	else
		eval "\$${_verb}_cmd"
	fi
}
