"""A line for every keyword that may stand in a proxy, by the side where it may stand, as HAProxy takes it."""

from __future__ import annotations

BOTH = """
acl x path /|compression algo gzip|description x|enabled|errorfile 503 /dev/null|errorloc 503 /x
errorloc302 503 /x|errorloc303 503 /x|force-persist if TRUE|http-request set-header X y|http-response set-header X y
ignore-persist if TRUE|log 127.0.0.1 local0|log-format x|log-format-sd x|log-tag x|mode http|redirect prefix / if FALSE
email-alert from a@b|email-alert level alert|email-alert mailers m|email-alert myhostname h|email-alert to x@y
option forwardfor|option http-buffer-request|option http-keep-alive|option http-no-delay
option http-server-close|option httpclose|option httplog|option independent-streams|option nolinger|option originalto
option splice-auto|option splice-request|option splice-response|option tcpka|option tcplog
stats admin if TRUE|stats auth a:b|stats enable|stats hide-version|stats http-request allow|stats realm x
stats refresh 5s|stats scope .|stats show-desc x|stats show-legends|stats show-node|stats uri /x
tcp-request content accept|tcp-request inspect-delay 5s
timeout http-keep-alive 5s|timeout http-request 5s|timeout tarpit 5s
http-error status 500 content-type text/plain string x|errorfiles e|option http-restrict-req-hdr-names preserve
"""
BACKEND = """
balance roundrobin|cookie SRV insert|default-server inter 1s|dispatch 127.0.0.1:80|fullconn 10|hash-type consistent
http-reuse safe|http-send-name-header X-S|load-server-state-from-file none|max-keep-alive-queue 10|retries 3
server s9 127.0.0.1:9|server-state-file-name x|source 127.0.0.1|stick-table type ip size 10|transparent
use-server s9 if TRUE|external-check command /bin/true|external-check path /bin|id 77|guid x
http-check disable-on-404|http-check expect status 200|http-check send-state|http-check send meth GET uri /
option abortonclose|option accept-invalid-http-response|option allbackups|option checkcache|option external-check
option http-pretend-keepalive|option httpchk|option ldap-check|option log-health-checks
option mysql-check user x|option persist
option pgsql-check user x|option prefer-last-server|option redis-check|option redispatch|option smtpchk|option srvtcpka
option ssl-hello-chk|option tcp-check|option tcp-smart-connect|option transparent|persist rdp-cookie|stick match src
stick on src|stick store-request src|stick store-response src|tcp-check connect|tcp-check expect string x
tcp-check send x|tcp-check send-binary aa|tcp-check send-lf x|tcp-check send-binary-lf aa|tcp-check comment x
tcp-response content accept|tcp-response inspect-delay 5s|timeout check 5s|timeout connect 5s|timeout queue 5s
timeout server 5s|timeout server-fin 5s|timeout tunnel 5s|hash-balance-factor 150|retry-on conn-failure
server-template t 2 127.0.0.1:1|srvtcpka-cnt 3|srvtcpka-idle 3|srvtcpka-intvl 3
option forwarded|option h1-case-adjust-bogus-server
"""
FRONTEND = """
backlog 10|bind 127.0.0.1:18999|default_backend b|maxconn 10|unique-id-format %ci|unique-id-header X
use_backend b if TRUE|capture cookie x len 10|capture request header x len 10|capture response header x len 10
declare capture request len 10|monitor fail if FALSE|monitor-uri /m|option accept-invalid-http-request
option clitcpka|option contstats|option dontlog-normal|option dontlognull|option http-ignore-probes
option http-use-proxy-header|option log-separate-errors|option logasap|option socket-stats|option tcp-smart-accept
rate-limit sessions 10|tcp-request connection accept|timeout client 5s|timeout client-fin 5s
clitcpka-cnt 3|clitcpka-idle 3|clitcpka-intvl 3|error-log-format x|filter compression
http-after-response set-header X y|option disable-h2-upgrade|option h1-case-adjust-bogus-client
option idle-close-on-response|tcp-request session accept|timeout client-hs 3s
"""
DISABLING = "disabled"
"""A keyword without a line: it would take the section out of HAProxy's check."""

SINCE = {"option forwarded": (2, 8), "timeout client-hs": (3, 0), "guid": (3, 0)}
NOT_NEGATED_SINCE = {"option accept-invalid-http-request": (3, 2), "option accept-invalid-http-response": (3, 2)}


def lines(text: str) -> list[str]:
    """The lines of a table."""
    return [one for line in text.split("\n") for one in line.split("|") if one]
