# fish completion for app-rollout
complete -c app-rollout -f -n __fish_use_subcommand -a 'run status check show rollback history'
complete -c app-rollout -F -n '__fish_seen_subcommand_from check'
complete -c app-rollout -f -n '__fish_seen_subcommand_from run status show rollback history' \
    -a "(string replace -r '.*/(.*)\.env' '\$1' /etc/app-rollout/*.env)"
