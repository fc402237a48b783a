"""The wire: pure forms and rules that both sides speak. No sockets, clock or Mercurial."""
