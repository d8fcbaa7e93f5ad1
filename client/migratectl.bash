# SPDX-License-Identifier: Apache-2.0
# Bash completion for migratectl.
_migratectl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= n=0 i word
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--control | --downtime | --max-rounds | --streams | --bandwidth | --timeout | --unit | --key) ((i++)) ;;
		--pid | --files | --unix-external | --tty | --take-address | --accept-queue) ((i++)) ;;
		-*) ;;
		*) [ -z "$verb" ] && verb=$word || ((n++)) ;;
		esac
	done
	COMPREPLY=()
	case $prev in
	--control) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--unit) COMPREPLY=($(compgen -W "stop refuse" -- "$cur")); return ;;
	--take-address) COMPREPLY=($(compgen -W "auto none" -- "$cur")); return ;;
	--accept-queue) COMPREPLY=($(compgen -W "refuse reset" -- "$cur")); return ;;
	--streams) COMPREPLY=($(compgen -W "1 2 3 4" -- "$cur")); return ;;
	--downtime | --max-rounds | --bandwidth | --timeout) return ;;
	esac
	local peers='migratectl peer list 2>/dev/null | cut -f1'
	local ids='migratectl list 2>/dev/null | awk "NR > 1 { print \$1 }"'
	case $verb:$n in
	:*) word="send check list status watch cancel resolve identity peer --control --json --help" ;;
	send:0 | check:0) word=$(cd /proc && echo [1-9]*) ;;
	send:1 | check:1) word=$(eval "$peers") ;;
	send:*) word= ;;
	status:0 | watch:0 | cancel:0 | resolve:0) word=$(eval "$ids") ;;
	resolve:1) word="here there" ;;
	peer:0) word="add list remove" ;;
	identity:0) word="rotate retire" ;;
	peer:1) [ "$prev" = remove ] && word=$(eval "$peers") || word= ;;
	*) word= ;;
	esac
	[ "$verb" = peer ] && [[ $cur == -* ]] && word=--key
	[ "$verb" = identity ] && [[ $cur == -* ]] && word=--force
	[ "$verb" = send ] && [[ $cur == -* ]] && word="--downtime --force-switch --max-rounds
		--streams --bandwidth --timeout --pid --files --unix-external --unit --tty
		--take-address --accept-queue --dry-run --json --control"
	[ "$verb" = check ] && [[ $cur == -* ]] && word="--take-address --json --control"
	COMPREPLY=($(compgen -W "$word" -- "$cur"))
}
complete -F _migratectl migratectl
