# Completion of ringbus, ringbusd, shm-inspect and ringbus-bench for fish. What there is to complete
# is read from the programs' own --help; names of events and nodes from the bus.

# Lines "--option<TAB>ARGUMENT<TAB>text", and "verb<TAB><TAB>text" for verbs, of a help text on
# standard input.
function __ringbus_parse
    awk '/^Examples:/ { exit }
    /^ +-/ {
        left = $0
        sub(/^ +/, "", left)
        text = left
        sub(/  .*/, "", left)
        if (!sub(/^.*[^ ]  +/, "", text))
            text = ""
        n = split(left, part, /[,|] */)
        for (i = 1; i <= n; i++)
            if (split(part[i], word, " ") && word[1] ~ /^--/)
                print word[1] "\t" word[2] "\t" text
    }
    /^  [a-z][a-z-]*( |$)/ && !options {
        text = $0
        sub(/^ +[^ ]+ */, "", text)
        print $1 "\t\t" text
    }
    /^ +-/ { options = 1 }'
end

function __ringbus_names --argument-names head program
    $program ls --quiet --color never $argv[3..-1] 2>/dev/null | awk -v head=$head '
    $6 ~ /^[A-Z]+$/ { on = $6 == head; next }
    on && NF >= 6 { sub(/^ *[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +/, ""); if ($0 != "-") print }'
end

function __ringbus_values
    switch $argv[1]
        case PATH FILE
            __fish_complete_path (commandline -ct)
        case DIR DIRECTORY
            __fish_complete_directories (commandline -ct) ''
        case WHEN
            printf '%s\n' auto always never
        case FORMAT
            if string match -q '*shm-inspect' -- $argv[2]
                printf '%s\n' text hex none
            else
                printf '%s\n' raw line json
            end
        case GROUP
            __fish_complete_groups
    end
end

function __ringbus_complete
    set -l words (commandline -opc)
    set -l program $words[1]
    set -l before $words[-1]
    set -l cur (commandline -ct)
    set -l verb
    set -l bus
    for i in (seq 2 (math (count $words) - 1))
        if contains -- $words[$i] -p --port -d --directory
            set bus $bus $words[$i] $words[(math $i + 1)]
        end
    end
    if test (count $words) -gt 1; and not string match -q -- '-*' $words[2]
        and test (basename $program) = ringbus
        set verb $words[2]
    end
    set -l text ($program $verb --help 2>/dev/null)
    or return
    for line in (printf '%s\n' $text | __ringbus_parse)
        set -l part (string split \t -- $line)
        if test "$part[1]" = "$before"; and string match -q -- '--*' $before; and test -n "$part[2]"
            __ringbus_values $part[2] $program
            return
        end
        if string match -q -- '-*' "$cur"
            string match -q -- '-*' $part[1]; and printf '%s\t%s\n' $part[1] $part[3]
        else if test -z "$verb"
            string match -q -- '-*' $part[1]; or printf '%s\t%s\n' $part[1] $part[3]
        end
    end
    if test -n "$verb"; and not string match -q -- '-*' "$cur"
        if string match -qr ' EVENT|\[EVENT\]' -- $text[1]
            __ringbus_names EVENT $program $bus
        else if string match -q '*NAME*' -- $text[1]
            __ringbus_names NODE $program $bus
        end
    end
end

for program in ringbus ringbusd shm-inspect ringbus-bench
    complete -c $program -f -a '(__ringbus_complete)'
end
