#!/bin/sh
# installme: installs Assimilation on this machine, or from the CMA's machine on others over ssh.
#
# Read it before you run it as root. It begins at its end, with the options; what they ask for comes in this order:
#   messages and the log ................... every command and its outcome is logged
#   packages ............................... which fit a system, whether they are undamaged, putting them there
#   keys, settings, units .................. and what the CMA knows of a host
#   this machine ........................... all of that here, and waiting for the registration; a copy of the packages
#   other machines ......................... ssh, copy, run this same program there, verify here
# Every step looks first whether it is done already, so that after any interruption the same command goes on.
# Secrets (passwords, tokens, secret keys) are never on a command line, in the environment or in the log.
set -u

VERSION='@VERSION@'
CMA_UNIT=assimilation-cma.service
NANOPROBE_UNIT=assimilation-nanoprobe.service
PUBLIC_KEYS='#CMA#*.pub'
DEFAULT_PORT=1984
# The list of what was copied, in the copy of the packages; lib.sh of the packages has the same name.
KEPT=.kept-by-installme
# What a release needs while it is unpacked and installed, in KiB.
SPACE_KIB=204800

usage() {
    cat <<'END'
Installs Assimilation.

  sudo ./installme                                  CMA and nanoprobe on this machine
  sudo ./installme nanoprobe [--cmaaddr ADDR]       nanoprobe on this machine
  sudo ./installme --remote HOST [--remote HOST]... from the CMA's machine: nanoprobe on others, over ssh

  --cmaaddr ADDR      where the CMA is, such as 192.0.2.1:1984; may be repeated [default: found by multicast]
  --name NAME         name that the host is known by [default: its host name in lower case]
  --keys DIR          take the CMA's public keys (#CMA#*.pub) from DIR
  --token-file FILE   enrolment token, where the CMA wants one; - reads it from standard input
  --token TOKEN       the same on the command line, where others on this machine can see it for a moment

  --remote HOST       HOST or USER@HOST; may be repeated. One that fails does not stop the others
  --user USER         who logs in there [default: who called sudo, else root]; becomes root there with sudo
  --port PORT         port of the ssh servers [default: 22]
  --identity FILE     private key for ssh
  --accept-new-host-keys   trust ssh servers that were never seen before (never one whose key changed)

  --packages DIR      where packages are [default: beside this program, else /usr/share/assimilation/install]
  --kind KIND         deb, rpm or plain (programs and units without a package manager) [default: by the system]
  --wait SECONDS      how long to wait for a registration [default: 60]
  --dry-run           print what would be done, and change nothing, neither here nor there
  --root DIR          put DIR in front of every path: programs, keys and settings only; nothing is started
  --firewall-rule PORT     print the rule that lets UDP packets to PORT in, for the firewall of this machine
  --help, --version

Exit status: 0 = done, 1 = an error, 2 = done, and there is something to look at.
What was done is in /var/log/assimilation-install.log.
END
}
