# SPDX-License-Identifier: Apache-2.0
# Completion of mezz for bash.

# Names of VMs in some state; nothing if mezzd does not answer.
_mezz_vms() {
	mezz ls 2>/dev/null | awk -v state="$1" 'NR > 1 && (state == "" || $2 == state) { print $1 }'
}

_mezz_pools() {
	mezz pool ls 2>/dev/null | awk 'NR > 1 && $1 != "(host)" { print $1 }'
}

# The long options that the help of a command names.
_mezz_options() {
	mezz "$1" --help 2>/dev/null | grep -oE '^ {2,6}(-., )?--[a-z-]+' | grep -oE -- '--[a-z-]+'
}

_mezz_commands() {
	mezz --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }'
}

_mezz() {
	local cur prev command
	local keys='memory= reservation= limit= shares= pool= group= sharing= floor= autostart='
	COMPREPLY=()
	cur=${COMP_WORDS[COMP_CWORD]}
	prev=${COMP_WORDS[COMP_CWORD - 1]}
	command=${COMP_WORDS[1]}

	if [ "$COMP_CWORD" -eq 1 ]; then
		COMPREPLY=($(compgen -W "$(_mezz_commands)" -- "$cur"))
		return
	fi
	case $prev in
	--kernel | -k | --initrd | -i | --disk | -d | --stats | --socket)
		COMPREPLY=($(compgen -f -- "$cur"))
		return
		;;
	--pool | --parent)
		COMPREPLY=($(compgen -W "$(_mezz_pools)" -- "$cur"))
		return
		;;
	--shares)
		COMPREPLY=($(compgen -W 'low normal high' -- "$cur"))
		return
		;;
	--sharing | --autostart | --expandable)
		COMPREPLY=($(compgen -W 'on off' -- "$cur"))
		return
		;;
	esac
	if [[ $cur == -* ]]; then
		local options
		options=$(_mezz_options "$command")
		# What defines a VM understands the options of its process too.
		[[ $command == create || $command == set ]] && options+=" $(_mezz_options run)"
		COMPREPLY=($(compgen -W "$(printf '%s\n' $options | sort -u)" -- "$cur"))
		return
	fi
	case $command in
	start | rm)
		COMPREPLY=($(compgen -W "$(_mezz_vms poweredOff)" -- "$cur"))
		;;
	stop | console | map)
		COMPREPLY=($(compgen -W "$(_mezz_vms poweredOn)" -- "$cur"))
		;;
	show)
		COMPREPLY=($(compgen -W "$(_mezz_vms)" -- "$cur"))
		;;
	set)
		if [ "$COMP_CWORD" -eq 2 ]; then
			COMPREPLY=($(compgen -W "$(_mezz_vms)" -- "$cur"))
		else
			COMPREPLY=($(compgen -W "$keys" -- "$cur"))
			compopt -o nospace
		fi
		;;
	create)
		[ "$COMP_CWORD" -eq 2 ] && return
		COMPREPLY=($(compgen -W "$keys" -- "$cur"))
		compopt -o nospace
		;;
	pool)
		if [ "$COMP_CWORD" -eq 2 ]; then
			COMPREPLY=($(compgen -W 'ls set rm' -- "$cur"))
		elif [ "$COMP_CWORD" -eq 3 ]; then
			COMPREPLY=($(compgen -W "$(_mezz_pools)" -- "$cur"))
		else
			COMPREPLY=($(compgen -W 'reservation= limit= shares= expandable= parent=' -- "$cur"))
			compopt -o nospace
		fi
		;;
	mmu)
		if [ "$COMP_CWORD" -eq 2 ]; then
			COMPREPLY=($(compgen -W report -- "$cur"))
		else
			COMPREPLY=($(compgen -f -- "$cur"))
		fi
		;;
	esac
}
complete -F _mezz mezz
