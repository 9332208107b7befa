#!/usr/bin/env bash
# Makes the CA of services and operators, and certificates under it. The CA of agents and enforcement points is another one, which
# credential-issuer makes and keeps itself: a certificate of the one is never accepted in the place of the other.
#
#   make.sh ca DIR TRUST_DOMAIN              a new CA: DIR/ca.pem, DIR/ca.key
#   make.sh service DIR TRUST_DOMAIN NAME    DIR/NAME/tls.pem, tls.key for registry, credential-issuer, policy-decision, audit-collector;
#                                            for credential-issuer and audit-collector also kek, once: what wraps their keys at rest
#   make.sh operator DIR TRUST_DOMAIN NAME   DIR/operator-NAME.pem, .key for a person or a pipeline
#
# Certificates hold for LEGATE_DAYS days: 30 by default; more than 90 is refused by every service. Run it again to renew: the services
# read changed files by themselves and keep their connections.
set -euo pipefail
umask 077

usage() { sed -n 's/^# \{0,1\}//; 5,8p' "$0" >&2; exit 1; }

ca() {
  local dir=$1 domain=$2
  mkdir -p "$dir"
  if [ -e "$dir/ca.key" ]; then echo "$dir/ca.key is there already; a CA is not made twice" >&2; exit 1; fi
  openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$dir/ca.key"
  openssl req -x509 -new -key "$dir/ca.key" -sha256 -days 3650 -subj "/CN=Legate services of $domain" -out "$dir/ca.pem" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign"
  chmod 644 "$dir/ca.pem"
}

# leaf CERT KEY CA_DIR NAMES
leaf() {
  local cert=$1 key=$2 dir=$3 names=$4 days=${LEGATE_DAYS:-30}
  if [ "$days" -gt 90 ]; then echo "no service accepts a certificate of more than 90 days" >&2; exit 1; fi
  # Written whole, then moved: a service never reads half a pair for longer than its next look.
  openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$key.new"
  openssl req -new -key "$key.new" -subj "/" |
    openssl x509 -req -sha256 -days "$days" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -set_serial "0x4$(openssl rand -hex 15)" \
      -out "$cert.new" -extfile <(printf '%s\n' "subjectAltName=critical,$names" "basicConstraints=critical,CA:FALSE" \
        "keyUsage=critical,digitalSignature" "extendedKeyUsage=clientAuth,serverAuth" "authorityKeyIdentifier=keyid")
  chmod 644 "$cert.new"
  mv "$key.new" "$key"
  mv "$cert.new" "$cert"
}

[ $# -ge 3 ] || usage
case $1 in
  ca) ca "$2" "$3" ;;
  service)
    [ $# = 4 ] || usage
    mkdir -p "$2/$4"
    # Clients of ours go by the SPIFFE ID; the DNS name is for web clients that read the log's tiles.
    leaf "$2/$4/tls.pem" "$2/$4/tls.key" "$2" "URI:spiffe://$3/legate/$4,DNS:$4"
    # Never made twice: the keys at rest open with the one that wrapped them and no other.
    if { [ "$4" = credential-issuer ] || [ "$4" = audit-collector ]; } && [ ! -e "$2/$4/kek" ]; then
      printf '1 %s\n' "$(openssl rand -hex 32)" > "$2/$4/kek.new"
      mv "$2/$4/kek.new" "$2/$4/kek"
    fi
    ;;
  operator)
    [ $# = 4 ] || usage
    leaf "$2/operator-$4.pem" "$2/operator-$4.key" "$2" "URI:spiffe://$3/legate/operator/$4"
    ;;
  *) usage ;;
esac
