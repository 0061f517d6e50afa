package server

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// Host is one server of a connection string that names several.
type Host struct {
	// Name is a host name, an address, or the directory of a Unix socket.
	Name string
	Port uint16
}

// String is the host as in a message.
func (h Host) String() string {
	if strings.HasPrefix(h.Name, "/") {
		return fmt.Sprintf("%s port %d", h.Name, h.Port)
	}
	return net.JoinHostPort(h.Name, strconv.Itoa(int(h.Port)))
}

// Hosts lists the servers that a connection string names, in its order.
func Hosts(conninfo string) ([]Host, error) {
	cfg, err := Parse(conninfo)
	if err != nil {
		return nil, err
	}
	list := []Host{{cfg.Host, cfg.Port}}
	for _, f := range cfg.Fallbacks {
		// sslmode=prefer names each host twice.
		if h := (Host{f.Host, f.Port}); !slices.Contains(list, h) {
			list = append(list, h)
		}
	}
	return list, nil
}

// ConnectHost connects to one of the servers of a connection string, whatever
// its target_session_attrs say. Otherwise it is Connect.
func ConnectHost(ctx context.Context, conninfo string, h Host, mode Mode, adjust func(*pgconn.Config)) (*pgconn.PgConn, error) {
	return Connect(ctx, conninfo, mode, func(c *pgconn.Config) {
		all := append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
		all = slices.DeleteFunc(all, func(f *pgconn.FallbackConfig) bool { return f.Host != h.Name || f.Port != h.Port })
		c.Host, c.Port, c.ValidateConnect, c.Fallbacks = h.Name, h.Port, nil, nil
		if len(all) > 0 {
			c.TLSConfig, c.Fallbacks = all[0].TLSConfig, all[1:]
		}
		if adjust != nil {
			adjust(c)
		}
	})
}

// TryLast makes a host the last one of a connection's settings to be tried, if
// they name it.
func TryLast(c *pgconn.Config, h Host) {
	all := append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
	var first, last []*pgconn.FallbackConfig
	for _, f := range all {
		if f.Host == h.Name && f.Port == h.Port {
			last = append(last, f)
		} else {
			first = append(first, f)
		}
	}
	all = slices.Concat(first, last)
	c.Host, c.Port, c.TLSConfig, c.Fallbacks = all[0].Host, all[0].Port, all[0].TLSConfig, all[1:]
}

// ConnectFirst is Connect, and also tells which of the servers answered.
func ConnectFirst(ctx context.Context, conninfo string, mode Mode, adjust func(*pgconn.Config)) (*pgconn.PgConn, Host, error) {
	var mu sync.Mutex
	names := map[string]string{}
	conn, err := Connect(ctx, conninfo, mode, func(c *pgconn.Config) {
		lookup := c.LookupFunc
		c.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
			addresses, err := lookup(ctx, host)
			mu.Lock()
			defer mu.Unlock()
			for _, a := range addresses {
				names[a] = host
			}
			return addresses, err
		}
		if adjust != nil {
			adjust(c)
		}
	})
	if err != nil {
		return nil, Host{}, err
	}
	mu.Lock()
	defer mu.Unlock()
	return conn, hostOf(conn.Conn().RemoteAddr(), names), nil
}

// hostOf is the host of an address that was connected to.
func hostOf(addr net.Addr, names map[string]string) Host {
	if addr.Network() == "unix" {
		// DIRECTORY/.s.PGSQL.PORT
		port, _ := strconv.ParseUint(strings.TrimPrefix(filepath.Ext(addr.String()), "."), 10, 16)
		return Host{Name: filepath.Dir(addr.String()), Port: uint16(port)}
	}
	address, text, err := net.SplitHostPort(addr.String())
	if err != nil {
		return Host{Name: addr.String()}
	}
	port, _ := strconv.ParseUint(text, 10, 16)
	if name, ok := names[address]; ok {
		address = name
	}
	return Host{Name: address, Port: uint16(port)}
}
