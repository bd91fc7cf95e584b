<?php
// Symfony Mailer: php symfony_mailer.php PORT USER PASSWORD CA RCPT…; the content is on standard input.
require '/usr/share/php/Symfony/Component/Mailer/autoload.php';

use Symfony\Component\Mailer\Envelope;
use Symfony\Component\Mailer\Transport\Smtp\EsmtpTransport;
use Symfony\Component\Mime\Address;
use Symfony\Component\Mime\RawMessage;

[, $port, $user, $password, $authority] = $argv;
$transport = new EsmtpTransport('localhost', (int) $port, false);
if ($authority !== '') {
    $transport->getStream()->setStreamOptions(['ssl' => ['cafile' => $authority]]);
}
$transport->setLocalDomain('client.example');
if ($user !== '') {
    $transport->setUsername($user)->setPassword($password);
}
$recipients = array_map(fn ($one) => new Address($one), array_slice($argv, 5));
$envelope = new Envelope(new Address('a@example.org'), $recipients);
// It sends a raw message as it is, LF too.
$content = str_replace("\n", "\r\n", stream_get_contents(STDIN));
$transport->send(new RawMessage($content), $envelope);
