# bash completion for app-rollout

_app_rollout_apps() {
    local f
    for f in /etc/app-rollout/*.env; do
        [ -e "$f" ] || [ -L "$f" ] || continue
        f=${f##*/}
        printf '%s\n' "${f%.env}"
    done
}

_app_rollout() {
    local cur=${COMP_WORDS[COMP_CWORD]} flags=--help words
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words='run status check show restart rollback history logs'
        case $cur in -*) words='--help --version' ;; esac
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
        return
    fi
    case ${COMP_WORDS[1]} in
        status | check) flags='--json --help' ;;
        logs) flags='--follow --lines --help' ;;
    esac
    case $cur in
        -*) mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur"); return ;;
    esac
    case ${COMP_WORDS[1]} in
        run | status | check | show | restart | rollback | history | logs)
            mapfile -t COMPREPLY < <(compgen -W "$(_app_rollout_apps)" -- "$cur")
            ;;
    esac
    # check takes files too.
    if [ "${COMP_WORDS[1]}" = check ]; then
        local files
        mapfile -t files < <(compgen -f -- "$cur")
        COMPREPLY+=("${files[@]}")
    fi
}
complete -o filenames -F _app_rollout app-rollout
