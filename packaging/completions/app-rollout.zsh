#compdef app-rollout
local -a apps
apps=(/etc/app-rollout/*.env(N:t:r))
if (( CURRENT == 2 )); then
    compadd run status check show rollback history
elif [[ $words[2] == check ]]; then
    _files
else
    compadd -a apps
fi
