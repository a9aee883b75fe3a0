# bash completion for app-rollout
_app_rollout() {
    local cur=${COMP_WORDS[COMP_CWORD]} apps
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W 'run status check show rollback history' -- "$cur"))
        return
    fi
    case ${COMP_WORDS[1]} in
    check)
        COMPREPLY=($(compgen -f -- "$cur")) ;;
    *)
        apps=$(cd /etc/app-rollout 2>/dev/null && for f in *.env; do printf '%s\n' "${f%.env}"; done)
        COMPREPLY=($(compgen -W "$apps" -- "$cur")) ;;
    esac
}
complete -F _app_rollout app-rollout
