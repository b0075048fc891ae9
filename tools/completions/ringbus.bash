# Completion of ringbus, ringbusd, shm-inspect and ringbus-bench for bash. What there is to complete
# is read from the programs' own --help; names of events and nodes from the bus.

# Lines "--option<TAB>ARGUMENT", and "verb<TAB>" for verbs, of a help text on standard input.
_ringbus_parse()
{
	awk '/^Examples:/ { exit }
	/^ +-/ {
		left = $0
		sub(/^ +/, "", left)
		sub(/  .*/, "", left)
		n = split(left, part, /[,|] */)
		for (i = 1; i <= n; i++)
			if (split(part[i], word, " ") && word[1] ~ /^--/)
				print word[1] "\t" word[2]
	}
	/^  [a-z][a-z-]*( |$)/ && !options { print $1 "\t" }
	/^ +-/ { options = 1 }'
}

# Last column of a table of "ringbus ls": $1 is its heading (NODE or EVENT).
_ringbus_names()
{
	"${words[0]}" ls --quiet --color never "${bus[@]}" 2>/dev/null | awk -v head="$1" '
	$6 ~ /^[A-Z]+$/ { on = $6 == head; next }
	on && NF >= 6 { sub(/^ *[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +/, ""); if ($0 != "-") print }'
}

# $1: what the help calls the value; $2: the program.
_ringbus_values()
{
	local formats='raw line json'
	[[ $2 != *shm-inspect ]] || formats='text hex none'
	case $1 in
	PATH | FILE) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	DIR | DIRECTORY) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	WHEN) mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- "$cur") ;;
	FORMAT) mapfile -t COMPREPLY < <(compgen -W "$formats" -- "$cur") ;;
	GROUP) mapfile -t COMPREPLY < <(compgen -g -- "$cur") ;;
	esac
}

# Names may hold anything: those that begin as typed, quoted as the line needs it.
_ringbus_offer_names()
{
	local name
	while IFS= read -r name; do
		[[ $name == "$cur"* ]] && COMPREPLY+=("$(printf %q "$name")")
	done < <(_ringbus_names "$1")
}

_ringbus()
{
	local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local words=("${COMP_WORDS[@]}") verb='' i text list argument usage bus=()
	COMPREPLY=()
	case $before in -p | --port | -d | --directory) ;; *)
		for ((i = 1; i < COMP_CWORD; i++)); do
			case ${words[i]} in
			-p | --port | -d | --directory) bus+=("${words[i]}" "${words[i + 1]}") ;;
			esac
		done ;;
	esac
	if ((COMP_CWORD > 1)) && [[ ${words[1]} != -* && ${words[0]##*/} == ringbus ]]; then
		verb=${words[1]}
	fi
	text=$("${words[0]}" ${verb:+"$verb"} --help 2>/dev/null) || return
	list=$(_ringbus_parse <<<"$text")
	if [[ $before == --* ]]; then
		argument=$(awk -F '\t' -v o="$before" '$1 == o { print $2; exit }' <<<"$list")
		if [[ -n $argument ]]; then
			_ringbus_values "$argument" "${COMP_WORDS[0]}"
			return
		fi
	fi
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(cut -f 1 <<<"$list" | grep '^-')" -- "$cur")
		return
	fi
	if [[ -z $verb ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(cut -f 1 <<<"$list" | grep -v '^-')" -- "$cur")
		return
	fi
	usage=${text%%$'\n'*}
	case $usage in
	*' EVENT'* | *'[EVENT]'*) _ringbus_offer_names EVENT ;;
	*NAME*) _ringbus_offer_names NODE ;;
	esac
}

complete -F _ringbus ringbus ringbusd shm-inspect ringbus-bench
