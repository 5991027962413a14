package serve

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/meshmount/meshmount/cmd/internal/settings"
)

// logName is the file that a background mount logs to.
func logName(p *Plan) string {
	if p.Config.LogFile != "" {
		return string(p.Config.LogFile)
	}
	return filepath.Join(p.CacheDir, "meshmount.log")
}

// OpenLog opens a file to append to. It is made for its owner only.
func OpenLog(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	return file, nil
}

// NewLogger returns a logger of the chosen level and format.
func NewLogger(w io.Writer, s *settings.Settings) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // the table of options allows only its names
	opts := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
