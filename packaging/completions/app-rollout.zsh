#compdef app-rollout

local -a commands apps
commands=(
  'run:roll out all apps, or the named ones, and follow the run'
  'status:show how the apps stand'
  'check:say what is wrong, or may surprise'
  'show:print what a run would do, and the unit'
  'restart:replace the instances by new ones of the same generation'
  'rollback:roll an app back to the generation before, and hold it there'
  'history:list the generations of an app'
  'logs:print what the instances and the rollouts of apps have logged'
)
apps=(/etc/app-rollout/*.env(N:t:r))

if (( CURRENT == 2 )); then
  if [[ $PREFIX == -* ]]; then
    compadd -- --help --version
  else
    _describe command commands
  fi
  return
fi
case $words[2] in
  status) [[ $PREFIX == -* ]] && compadd -- --json --help || compadd -a apps ;;
  check) [[ $PREFIX == -* ]] && compadd -- --json --help || { compadd -a apps; _files } ;;
  logs) [[ $PREFIX == -* ]] && compadd -- --follow --lines --help || compadd -a apps ;;
  run|restart) [[ $PREFIX == -* ]] && compadd -- --help || compadd -a apps ;;
  show|rollback|history)
    if [[ $PREFIX == -* ]]; then
      compadd -- --help
    elif (( CURRENT == 3 )); then
      compadd -a apps
    fi ;;
esac
