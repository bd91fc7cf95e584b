# Perl's Net::SMTP: perl net_smtp.pl PORT USER PASSWORD CA RCPT…; the content is on standard input.
use strict;
use warnings;
use Net::SMTP;

my ($port, $user, $password, $authority, @recipients) = @ARGV;
binmode STDIN;
my @lines = <STDIN>;
my $smtp = Net::SMTP->new('127.0.0.1', Port => $port, Hello => 'client.example')
    or die "no connection: $@";
sub ok { $_[1] or die "$_[0]: " . $smtp->code . ' ' . $smtp->message }
ok('STARTTLS', $smtp->starttls(SSL_ca_file => $authority, SSL_verifycn_name => 'localhost'))
    if $authority ne '';
ok('AUTH', $smtp->auth($user, $password)) if $user ne '';
ok('MAIL', $smtp->mail('a@example.org', Bits => '8'));
ok('RCPT', $smtp->to(@recipients));
ok('DATA', $smtp->data(@lines));
$smtp->quit;
