package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
)

// conversion is what "pack" and "unpack" do with one branch.
type conversion struct {
	name, done string
	run        func(ctx context.Context, k *keep.Backend, b *settings.Branch) (keep.Converted, error)
}

func (p *Program) unpackCommand() *cobra.Command {
	return p.conversionCommand(conversion{"unpack", "unpacked", func(ctx context.Context, k *keep.Backend, _ *settings.Branch) (keep.Converted, error) {
		return k.Unpack(ctx, "/")
	}}, &cobra.Command{
		Short: "make plain files of what --archive=keep has stored",
		Long:  "Make plain files of the small files that --archive=keep has stored in archives, below the\nURL. It can be interrupted and begun again, and others may write there meanwhile; what\ncannot be unpacked stays and is told. Archives without members are removed later, with a\nchange in their directory.\nFlags, environment and file are those of \"meshmount mount\".",
	})
}

func (p *Program) packCommand() *cobra.Command {
	return p.conversionCommand(conversion{"pack", "packed", func(ctx context.Context, k *keep.Backend, b *settings.Branch) (keep.Converted, error) {
		return k.Pack(ctx, "/", int64(b.BatchFileSize))
	}}, &cobra.Command{
		Short: "put small plain files in archives, as --archive=keep does",
		Long:  "Put the plain files of up to --batch-file-size below the URL in archives, as\n--archive=keep does with new ones. Mounts without --archive=keep and other programs do not\nsee them afterwards. Files that change meanwhile, that have extended attributes, or whose\nversion is too young to tell, stay and are told. It can be interrupted and begun again.\nFlags, environment and file are those of \"meshmount mount\".",
	})
}

// conversionCommand completes the command of a conversion.
func (p *Program) conversionCommand(how conversion, c *cobra.Command) *cobra.Command {
	c.Use = how.name + " [flags] [[NAME=]URL...]"
	flags := addOptions(c, "foreground")
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		for i, arg := range args {
			if before, _, _ := strings.Cut(arg, "="); strings.Contains(before, "://") {
				args[i] = "=" + arg
			}
		}
		config, err := p.resolve(flags.given, args)
		if err != nil {
			return err
		}
		if len(config.Branches) == 0 {
			return exit.New(exit.Usage, "write a URL, or use --config", "there is nothing to %s", how.name)
		}
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		secrets, err := p.fetch(ctx, config)
		if err != nil {
			return err
		}
		dialer := assemble.Dialer{Log: slog.New(slog.DiscardHandler), Agent: "meshmount/" + p.version(), Secrets: func(b *settings.Branch) remote.SecretSource {
			return func(context.Context) (remote.Secret, error) { return secrets[b.Name], nil }
		}}
		for i := range config.Branches {
			if err := p.convert(ctx, &dialer, config, &config.Branches[i], how); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

// convert dials a branch and converts what is in it.
func (p *Program) convert(ctx context.Context, dialer *assemble.Dialer, config *settings.Config, b *settings.Branch, how conversion) error {
	adapter, err := dialer.Dial(ctx, b)
	if err != nil {
		return err
	}
	log := dialer.Log
	k := keep.Wrap(assemble.Stack(adapter, b, assemble.NewRates(&config.Settings), log), keep.Options{Logger: log})
	defer func() { _ = k.Close() }()
	done, err := how.run(ctx, k, b)
	if _, err := fmt.Fprintf(p.Stdout, "%s: %d files %s, %d archives, %d bytes\n", b.Title(), done.Files, how.done, done.Archives, done.Bytes); err != nil {
		return err
	}
	for _, left := range done.Left {
		if _, err := fmt.Fprintf(p.Stdout, "left as it is: %s: %v\n", left.Path, left.Err); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return exit.New(exit.Interrupted, "run it again", "%s: interrupted", b.Title())
	case err != nil:
		return exit.New(exit.Failed, "run it again", "%s: %w", b.Title(), err)
	case len(done.Left) > 0:
		return exit.New(exit.Failed, "run it again", "%s: %d are left as they are", b.Title(), len(done.Left))
	}
	return nil
}
