<?php
// PHPMailer: php phpmailer.php PORT USER PASSWORD CA RCPT…; the text comes on the standard input.
require '/usr/share/php/libphp-phpmailer/autoload.php';
[, $port, $user, $password, $authority] = $argv;
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->Host = '127.0.0.1';
$mail->Port = (int) $port;
$mail->Hostname = 'client.example';
$mail->SMTPAutoTLS = false;
if ($authority !== '') {
    $mail->SMTPSecure = 'tls';
    $mail->SMTPOptions = ['ssl' => ['cafile' => $authority]];
}
if ($user !== '') {
    [$mail->SMTPAuth, $mail->Username, $mail->Password] = [true, $user, $password];
}
$mail->CharSet = 'utf-8';
$mail->Encoding = '8bit';
$mail->setFrom('a@example.org');
foreach (array_slice($argv, 5) as $recipient) {
    $mail->addAddress($recipient);
}
$mail->Subject = 'dots';
$mail->Body = stream_get_contents(STDIN);
$mail->send();
