# SPDX-License-Identifier: GPL-2.0-or-later
#
# What can stand next after postern on bash's command line. Loaded by bash-completion, which finds it
# by its installed name.

# _postern_names MEMBER COMMAND...: what the service says, each MEMBER of its JSON on a line. Nothing
# where it does not answer in time: who presses Tab is not to wait, nor to read about it. A quote in a
# value has a backslash before it, so the pattern is found in members alone. compgen expands its words,
# commands in them too, so nothing but what can be a profile's name goes there, whoever answers.
_postern_names() {
    timeout 2 "${@:2}" --json 2>/dev/null </dev/null |
        LC_ALL=C grep -o "\"$1\":\"[A-Za-z0-9][A-Za-z0-9._-]*\"" | cut -d '"' -f 4
}

_postern() {
    # shellcheck disable=SC2034 # _init_completion sets it
    local split
    local cur prev words cword
    _init_completion -s || return

    local -r commands='renew list status check close log monitor'
    local options='--json --host= -H --help --version'
    local command='' host='' argument=0 i
    for ((i = 1; i < cword; i++)); do
        case ${words[i]} in
            --host | -H) host=yes && ((i++)) ;;
            --duration) ((i++)) ;;
            --host=* | -H*) host=yes ;;
            -*) ;;
            *) [[ $command ]] && argument=1 || command=${words[i]} ;;
        esac
    done
    [[ $command && $command != renew ]] || options+=' --duration= --no-wait --verbose'

    case $prev in
        --host | -H)
            _known_hosts_real -a -- "$cur"
            return
            ;;
        --duration)
            # as people write them; any other does as well
            mapfile -t COMPREPLY < <(compgen -W '30s 1min 2min 5min 10min' -- "$cur")
            return
            ;;
    esac

    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
        return
    fi

    case $command in
        '') mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur") ;;
        renew | status | check | close | log)
            # of another host nobody is asked: that would be ssh, and its questions, at each Tab
            [[ $host || $argument -gt 0 ]] && return
            local -a ask=(profile "$1" status) # those with a window
            [[ $command == close ]] || ask=(name "$1" list)
            mapfile -t COMPREPLY < <(compgen -W "$(_postern_names "${ask[@]}")" -- "$cur")
            ;;
    esac
} &&
    complete -F _postern postern
