# Ruby's Net::SMTP, which Rails sends by: ruby net_smtp.rb PORT USER PASSWORD CA RCPT…
# The content comes on the standard input.
require "net/smtp"

port, user, password, authority, *recipients = ARGV
smtp = Net::SMTP.new("localhost", port.to_i)
smtp.disable_starttls
unless authority.empty?
  context = OpenSSL::SSL::SSLContext.new
  context.set_params(ca_file: authority)
  smtp.enable_starttls(context)
end
login = user.empty? ? [] : [user, password, :plain]
smtp.start("client.example", *login) do |one|
  one.send_message($stdin.binmode.read, "a@example.org", recipients)
end
