# fish completion for app-rollout

function __app_rollout_apps
    for f in /etc/app-rollout/*.env
        string replace -r '^.*/(.*)\.env$' '$1' -- $f
    end
end

complete -c app-rollout -f
complete -c app-rollout -n __fish_use_subcommand -a run -d 'Roll out all apps, or the named ones, and follow the run'
complete -c app-rollout -n __fish_use_subcommand -a status -d 'Show how the apps stand'
complete -c app-rollout -n __fish_use_subcommand -a check -d 'Say what is wrong, or may surprise'
complete -c app-rollout -n __fish_use_subcommand -a show -d 'Print what a run would do, and the unit'
complete -c app-rollout -n __fish_use_subcommand -a restart -d 'Replace the instances by new ones of the same generation'
complete -c app-rollout -n __fish_use_subcommand -a rollback -d 'Roll an app back to the generation before, and hold it there'
complete -c app-rollout -n __fish_use_subcommand -a history -d 'List the generations of an app'
complete -c app-rollout -n __fish_use_subcommand -a logs -d 'Print what instances and rollouts have logged'
complete -c app-rollout -n __fish_use_subcommand -s v -l version -d 'Print the version'
complete -c app-rollout -s h -l help -d 'Print what a command takes'
complete -c app-rollout -n '__fish_seen_subcommand_from status check' -l json -d 'Print one JSON document'
complete -c app-rollout -n '__fish_seen_subcommand_from logs' -s f -l follow -d 'Go on with what they log from now on'
complete -c app-rollout -n '__fish_seen_subcommand_from logs' -x -s n -l lines -d 'How many lines, the last ones'
complete -c app-rollout -n '__fish_seen_subcommand_from run status check show restart rollback history logs' -a '(__app_rollout_apps)'
complete -c app-rollout -n '__fish_seen_subcommand_from check' -F
